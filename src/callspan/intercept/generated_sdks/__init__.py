"""SDKs generated alike: their base clients, streams and helpers have the same names. `table` lists the hooks."""
