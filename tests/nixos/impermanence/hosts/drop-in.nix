# Every form. On purpose
# - homes have the mode of `users.users.<name>.homeMode`, and not 0700; as entries, too, they belong to their users;
# - /var, /var/lib and the like belong to root with 0755 on the store, too, whichever `parents` the entries below set;
# - an explicit entry wins over an implied one: /var/lib/private stays 0700;
# - a path without a leading slash has its parents on the store, and not beside it.
{
  imports = [ ../../hosts/drop-in.nix ];
}
