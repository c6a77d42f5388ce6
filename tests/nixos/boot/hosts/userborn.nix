# Users by userborn, and files of another user.
{
  imports = [
    ./store.nix
    ../../machines/userborn.nix
  ];
  environment.persistence."/persist".directories = [ "/nix" ];
  specialisation.more.configuration.environment.persistence."/persist".directories = [
    {
      directory = "/var/lib/abe";
      user = "abe";
      group = "abe";
    }
  ];
}
