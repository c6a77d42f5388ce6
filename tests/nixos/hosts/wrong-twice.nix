# The same entries in another module.
{
  environment.persistence.other = {
    persistentStoragePath = "/persist";
    directories = [ "var//twice/" ];
    files = [ "/etc/file" ];
  };
}
