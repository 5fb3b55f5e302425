"""The machine that benchmarks run on: its processor's name, a process's memory."""
