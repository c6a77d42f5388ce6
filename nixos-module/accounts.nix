# Users and groups by their names in passwd(5) and group(5), which need not be those of their attributes.
{ config, lib }:
let
  byName = set: lib.listToAttrs (map (it: lib.nameValuePair it.name it) (lib.attrValues set));
  attributes = config.users.users;
in
rec {
  users = byName attributes;
  groups = byName config.users.groups;

  # The login name of an attribute of users.users.
  login = attribute: attributes.${attribute}.name or attribute;
  # The primary group of a login name; null if unknown.
  groupOf = user: users.${user}.group or null;
}
