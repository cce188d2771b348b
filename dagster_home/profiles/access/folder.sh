#!/bin/sh
# Who may do what in a home that is a folder: docs/governance/access.md. As root, once, and again
# whenever rights are in doubt:   folder.sh HOME PHOTOS SERVICE OPERATORS READERS
# SERVICE is the user that Dagster and the commands run as, OPERATORS and READERS are groups, and it
# is a member of both. It works with umask 027.
set -eu
if [ "$#" -ne 5 ]; then
  echo "usage: folder.sh HOME PHOTOS SERVICE OPERATORS READERS" >&2
  exit 2
fi
home=$1 photos=$2 service=$3 operators=$4 readers=$5

if id "$service" >/dev/null 2>&1; then
  for group in "$operators" "$readers"; do
    case " $(id -Gn "$service") $(id -G "$service") " in
      *" $group "*) ;;
      *) echo "folder.sh: $service is no member of $group; usermod -a -G $group $service" >&2
         exit 1 ;;
    esac
  done
fi

# What is made later takes the group of the folder that it is made in (setgid).
share() {
  chown -R "$service:$1" "$2"
  find "$2" -type d -exec chmod 2750 {} +
  find "$2" -type f -exec chmod 640 {} +
}

mkdir -p "$home" "$photos"
share "$operators" "$home"
chmod 2751 "$home" # readers pass through, and see no name
for name in images manifest _versions quarantine learning catalog; do
  mkdir -p "$home/$name"
  share "$readers" "$home/$name"
done
# What is known of photos lies beside the index, and is no table.
mkdir -p "$home/catalog/anchors"
share "$operators" "$home/catalog/anchors"
# Keys, and what only a writer needs: the service alone.
for name in keys .tmp .locks; do
  mkdir -p "$home/$name"
  share "$operators" "$home/$name"
  chmod -R g=,o= "$home/$name"
done
# Operators bring photos and take them away; the service reads them as a member of the group.
chown -R "$service:$operators" "$photos"
find "$photos" -type d -exec chmod 2770 {} +
find "$photos" -type f -exec chmod 660 {} +
