#!/bin/sh
# Says what is wrong before the emergency shell opens, or does not: without a password for root there is none.
if systemctl --quiet is-failed imp-mount.service imp-mount-early.service; then
    imp-mount --check --quiet
fi
