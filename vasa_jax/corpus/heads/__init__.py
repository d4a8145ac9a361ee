"""Heads as signed distance fields, rendered on the device with exact labels."""
