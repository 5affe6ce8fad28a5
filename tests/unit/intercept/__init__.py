"""The hooks, each in isolation, on classes and objects that replace those of the SDKs."""
