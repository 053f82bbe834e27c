"""Tests: contract suites over every implementation, the child's bad cases, the API, and the whole service as a process."""
