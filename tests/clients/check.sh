# The assertions of the shell clients: a line for every claim that holds, the end of the program at the first that does
# not. The program that sources this file names itself in `program`.

# equals CLAIM WANTED GOT
equals() {
  if [[ $3 == "$2" ]]; then echo "ok $program: $1"; else mismatch "$@"; fi
}

# contains CLAIM WANTED GOT
contains() {
  if [[ $3 == *"$2"* ]]; then echo "ok $program: $1"; else mismatch "$@"; fi
}

mismatch() {
  printf 'FAILED %s: %s\n  wanted: %s\n  got:    %s\n' "$program" "$1" "$2" "$3"
  exit 1
}
