"""Encryption: keys, tokens and sealed bodies; knows no queue and no database."""
