"""Pictures and traces of what was measured, made as text: SVG for people, JSON for Perfetto.

Who uses it: the HTTP face. Pure: no clock, no I/O; the same job always gives the same picture.
"""
