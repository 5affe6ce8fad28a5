"""Fold: joins the events of a stream into the body that the endpoint returns without streaming.

A fold is total: a value of a wrong type is absent. It takes constant time for a chunk and keeps only strings of it.
"""
