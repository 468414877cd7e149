#!/bin/sh
# Passwords come in files, so that neither a variable of the compose file nor the store's URL holds one: libpq reads PGPASSWORD.
set -eu
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi
exec "$@"
