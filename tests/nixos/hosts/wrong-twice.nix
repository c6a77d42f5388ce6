# What another module says as well.
{
  environment.persistence.other = {
    persistentStoragePath = "/persist";
    directories = [ "var//twice/" ];
    files = [ "/etc/file" ];
  };
}
