"""The hooks, each by itself, on classes and objects that stand for those of the SDKs."""
