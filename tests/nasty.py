"""Texts that a client may name things by, each of which means something to a program that takes it for its own."""

from __future__ import annotations

__all__ = ["NASTY"]

NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</text></svg><script>alert(1)</script>",
    "</title></style><b>",
    "\"'><b onmouseover=alert(1)>",
    "&lt;&amp;&#x3c;",
    "<!--",
    "]]>",
    "{{7*7}} ${7*7} #{7*7}",
    "javascript:alert(1)",
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\N{FULLWIDTH EQUALS SIGN}1+1",
    '=cmd|"/C calc"!A0',
    'a","=1',
    "a;=1",
    "a\r\nSet-Cookie: a=b\r\n\r\n<b>",
    "a\nevent: state\ndata: {}\n\nid: 9-9",
    "a\rdata: {}\r\r",
    "a\u2028b\u2029c\u0085d\x0be\x0cf",
    "\x1b[2J\x1b]0;title\x07\x9b1m\x7f",
    "\u202etxt.exe\u2066\ufeff",
    '","ph":"X","ts":0},{"name":"',
    "\\u0000\\ud800\\n",
    "%0d%0a%00",
    "../../etc/passwd",
    "'; DROP TABLE jobs; --",
    "\U0001f40d\N{COMBINING DIAERESIS}\u0301" * 3,
    "\ufffe\uffff\ufdd0",
    "Größe 名前",
]
