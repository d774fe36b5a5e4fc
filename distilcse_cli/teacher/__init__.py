"""The teacher runs once: extraction into an embedding store, and opening one."""
