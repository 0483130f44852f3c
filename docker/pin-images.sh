#!/bin/sh
# Adds to each image that the given files name (FROM, image:) the digest that its tag has now.
# A tag can be moved to other bytes, a digest cannot. Run it again to follow the tags. Needs docker and a network.
set -eu
named='^(FROM| *image:) ([a-z0-9./_-]+:[A-Za-z0-9._-]+)(@sha256:[0-9a-f]{64})?( .*)?$'
pinned=$(mktemp)
trap 'rm -f "$pinned"' EXIT
for file in "$@"; do
    for image in $(sed -nE "s#$named#\\2#p" "$file" | sort -u); do
        digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
        if ! printf %s "$digest" | grep -qE '^sha256:[0-9a-f]{64}$'; then
            echo "pin-images: $image: got '$digest', expected a digest" >&2
            exit 1
        fi
        escaped=$(printf %s "$image" | sed 's/\./\\./g')
        sed -E "s#^(FROM| *image:) $escaped(@sha256:[0-9a-f]{64})?( .*)?\$#\\1 $image@$digest\\3#" "$file" > "$pinned"
        cat "$pinned" > "$file"
        echo "$file: $image@$digest"
    done
done
