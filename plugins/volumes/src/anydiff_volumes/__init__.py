"""The domain of medical volumes: what it registers. Imports nothing heavy."""
