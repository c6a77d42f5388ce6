# Users whose login names are not those of their attributes: owners are login names, options are named by attributes.
{
  imports = [ ../quiet.nix ];
  users.mutableUsers = true;
  users.users = {
    admin = {
      name = "root2";
      isNormalUser = true;
    };
    other = {
      name = "guest";
      isNormalUser = true;
      hashedPasswordFile = "/home/guest/hash";
    };
    worker = {
      name = "builder";
      isSystemUser = true;
      group = "nogroup";
      home = "/var/lib/worker";
      createHome = true;
    };
  };
  systemd.services.work.serviceConfig = {
    ExecStart = "/bin/true";
    User = "builder";
    StateDirectory = "work";
    LoadCredential = "a:/home/root2/work/key";
  };
  services.syncthing = {
    enable = true;
    user = "root2";
    group = "users";
  };
  nix.settings.secret-key-files = "/home/root2/keys/cache.sec";
  imp-mount.persist = {
    essentials = true;
    services = true;
  };
  # Part of a home is a choice; keys in it are none.
  environment.persistence."/persist".users.admin.directories = [ "Documents" ];
}
