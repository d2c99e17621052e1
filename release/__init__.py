"""Makes what is published of a version; not part of the package."""
