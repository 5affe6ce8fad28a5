"""Interception: the only package that touches the SDKs, their HTTP library and wrapt."""
