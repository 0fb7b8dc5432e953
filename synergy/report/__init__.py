"""Pictures and tables of records."""
