# A configuration as it is written for nix-community/preservation.
{
  imports = [ ./store.nix ];
  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [ "mode=0755" ];
  };
  fileSystems."/persist".neededForBoot = true;
  fileSystems."/nix" = {
    device = "/persist/nix";
    fsType = "none";
    options = [ "bind" ];
    depends = [ "/persist" ];
    neededForBoot = true;
  };
  services.openssh.enable = true;
  preservation = {
    enable = true;
    preserveAt."/persist" = {
      directories = [
        {
          directory = "/var/lib/nixos";
          inInitrd = true;
        }
        {
          directory = "/var/lib/app/data";
          user = "ada";
          group = "users";
          mode = "0750";
          configureParent = true;
          parent.mode = "0711";
        }
      ];
      files = [
        {
          file = "/etc/machine-id";
          inInitrd = true;
        }
        {
          file = "/etc/ssh/ssh_host_ed25519_key";
          how = "symlink";
          configureParent = true;
        }
      ];
      users.ada = {
        directories = [
          "foo/bar/baz"
          {
            directory = ".ssh";
            mode = "0700";
          }
        ];
        files = [
          {
            file = ".config/foo";
            mode = "0600";
          }
        ];
      };
    };
  };
}
