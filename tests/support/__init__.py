"""What tests of several folders need: no file here has a test."""
