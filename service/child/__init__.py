"""What runs in the child interpreter: standard library only, Python 3.9 syntax, any CPython from 3.9 on.

`server` is the fork server (one warm process per interpreter), `loop` the life of one job in a forked child, `lab` what
a scenario may use, `recorder` what it leaves behind, and `wire` the words of the link that both ends speak.
"""
