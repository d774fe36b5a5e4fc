"""What the commands and the Python functions do: defaults, checks of inputs and outputs, and one call."""
