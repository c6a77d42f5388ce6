# Every form that there is. On purpose
# - homes have the mode of `users.users.<name>.homeMode`, and not 0700; as entries, too, they are their users';
# - /var, /var/lib and the like belong to root with 0755 on the store, too, whatever the entries below say of their parents;
# - what is named wins over what is implied: /var/lib/private stays 0700;
# - a path without a slash before it has its parents on the store, and not beside it.
{
  imports = [ ../../hosts/drop-in.nix ];
}
