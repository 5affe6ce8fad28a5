"""Fold: joins the events of a stream into the body that the endpoint returns without streaming.

A fold is total: values of a wrong type count as absent. It takes constant time per chunk and keeps only its strings.
"""
