"""Measures what a model makes: from pixels alone, or against another bundle."""
