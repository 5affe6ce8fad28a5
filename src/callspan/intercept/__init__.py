"""Interception: the only package that patches the SDKs and their HTTP library."""
