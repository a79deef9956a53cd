# Ends process groups when the program that started them is gone, however it went: its end of the pipe closes on exit,
# on a panic, on Ctrl-C and on SIGKILL alike. Lines on standard input: "+ <group>" to watch one, "- <group>" to forget it,
# "x <file>" to remove a file that would describe what does not run any more.
groups=
file=
while read -r change group; do
  case $change in
    +) groups="$groups $group" ;;
    -)
      rest=
      for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done
      groups=$rest
      ;;
    x) file=$group ;;
  esac
done
[ -z "$file" ] || rm -f -- "$file"
for group in $groups; do kill -TERM "-$group" 2>/dev/null; done
tries=0
while [ $tries -lt 60 ]; do
  alive=
  for group in $groups; do kill -0 "-$group" 2>/dev/null && alive=yes; done
  [ -n "$alive" ] || exit 0
  tries=$((tries + 1))
  sleep 0.05
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
exit 0
