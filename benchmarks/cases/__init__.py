"""What is measured, a case a module. Each runs in a process of its own, see :mod:`benchmarks.child`."""
