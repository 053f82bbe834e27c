"""Contract suites over every implementation, the child's bad cases, the API, and the service as a process."""
