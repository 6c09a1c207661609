"""Agents: a model that thinks, acts and observes, with every step on record before it is acted on."""
