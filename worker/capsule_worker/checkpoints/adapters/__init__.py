"""Adapters: one module per library whose objects need special treatment.

A module is named like the library, and ends with ``ADAPTER = Adapter(...)``; see ``base``. It is found by its name. A
library that has an adapter must not be in ``known_libraries``.
"""
