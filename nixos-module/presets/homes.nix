# The homes of those who log in.
{
  config,
  lib,
  known,
}:
map (user: {
  directory = user.home;
  user = user.name;
  inherit (user) group;
  mode = user.homeMode;
  why = "the home of ${user.name}";
  chosen = true;
}) (lib.filter (user: user.isNormalUser && user.enable or true) (lib.attrValues config.users.users))
++ [
  {
    directory = config.users.users.root.home;
    mode = "0700";
    why = known.state."/root".what;
    chosen = true;
    # The audit names paths in homes from units and options.
    audited = false;
  }
]
++ lib.optional (config.services.homed.enable or false) {
  directory = "/home";
  why = "the homes that systemd-homed manages";
}
