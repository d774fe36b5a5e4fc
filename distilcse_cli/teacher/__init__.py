"""Run the teacher once: extract its rows into an embedding store, and open one."""
