# The homes of those who log in.
{ config, lib }:
map
  (user: {
    directory = user.home;
    user = user.name;
    inherit (user) group;
    mode = user.homeMode;
    why = "the home of ${user.name}";
    chosen = true;
  })
  (lib.filter (user: user.isNormalUser && user.enable or true) (lib.attrValues config.users.users))
