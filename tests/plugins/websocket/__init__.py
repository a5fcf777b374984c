"""Tests of the unix transports."""
