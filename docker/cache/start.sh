#!/bin/sh
# Starts the cache of docker-compose.yml. Passwords come in by the environment; the server gets their SHA-256 only.
set -eu
umask 077
: "${CACHE_ADMIN_PASSWORD:?}" "${CACHE_BUILDER_PASSWORD:?}" "${CACHE_SERVICE_PASSWORD:?}"
: "${CACHE_WORKER_PASSWORD:?}" "${CACHE_READER_PASSWORD:?}"
users="${TMPDIR:-/tmp}/users.acl"
hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }
sed -e '/^#/d' \
    -e "s/{CACHE_ADMIN_PASSWORD}/$(hash "$CACHE_ADMIN_PASSWORD")/" \
    -e "s/{CACHE_BUILDER_PASSWORD}/$(hash "$CACHE_BUILDER_PASSWORD")/" \
    -e "s/{CACHE_SERVICE_PASSWORD}/$(hash "$CACHE_SERVICE_PASSWORD")/" \
    -e "s/{CACHE_WORKER_PASSWORD}/$(hash "$CACHE_WORKER_PASSWORD")/" \
    -e "s/{CACHE_READER_PASSWORD}/$(hash "$CACHE_READER_PASSWORD")/" \
    "$(dirname "$0")/users.acl" > "$users"
unset CACHE_ADMIN_PASSWORD CACHE_BUILDER_PASSWORD CACHE_SERVICE_PASSWORD CACHE_WORKER_PASSWORD
unset CACHE_READER_PASSWORD
# noeviction: a full cache must fail a publish loudly; any other policy would lose users silently.
# Append-only file, fsync each second: a restart brings every user back, a power cut costs one second.
# exec: the server gets the signals, so that it saves before it ends.
exec valkey-server --aclfile "$users" --dir "${CACHE_DIR:-/data}" \
    --maxmemory "$MAXMEMORY" --maxmemory-policy noeviction \
    --appendonly yes --appendfsync everysec --save '' "$@"
