# SPDX-License-Identifier: BSD-3-Clause
# fish completion for penstock(1). What can be completed is asked of the command itself
# (`penstock help --complete WORD...`; src/cli/complete.c), so this file knows no command.

function __penstock_offers
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in (command $program help --complete $words "$word" 2>/dev/null)
        if string match -q \t'*' -- $line
            set -l prefix (string sub -s 2 -- $line)
            set -l rest (string sub -s (math 1 + (string length -- "$prefix")) -- "$word")
            for file in (__fish_complete_path "$rest")
                echo "$prefix$file"
            end
        else
            echo $line
        end
    end
end

complete -c penstock -f -a '(__penstock_offers)'
