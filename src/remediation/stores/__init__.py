"""
Where things are kept: the journal's database and the blobs.

Implementations of the storage ports. This package must not decide anything, and knows neither effects nor runbooks.
"""
