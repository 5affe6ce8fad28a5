"""Postgres: tables in a database that any number of writers may share."""
