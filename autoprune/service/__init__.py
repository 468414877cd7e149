"""``autoprune serve``: searches over HTTP, a thin face over ``autoprune.api``; ``static/`` is its web page.

settings.py  tokens.py          what the server was started with, and who may do what
guard.py  limits.py  headers.py every request passes these: Host, Origin, token, rate, size, security headers
app.py                          puts the routes together
schemas.py  errors.py           what goes over the wire: typed bodies, and one shape for all errors
"""
