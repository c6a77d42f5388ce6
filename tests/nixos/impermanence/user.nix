# Paths of a user, from impermanence's tests.
{
  directories = [
    "Downloads"
    "Music"
    "Pictures"
    "Documents"
    "Videos"
    ".local/share/subdir"
    {
      directory = "owned/by/other/user";
      user = "fish";
    }
  ];
  files = [ ".config/persistence_test" ];
}
