"""Durable jobs, and the scheduler that has worker processes do them."""
