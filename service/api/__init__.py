"""HTTP: FastAPI lives here, and only here. Each module is a group of endpoints or one concern of all of them."""
