from __future__ import annotations

import subprocess
import sys

import pytest

from vosrepro.cli import COMMANDS, help_page, main


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert page.strip() == help_page().strip()
    for command in COMMANDS:
        assert f"  {command.name} " in page


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: vosrepro {name}" in capsys.readouterr().out


def test_a_mistyped_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_a_users_mistake_is_one_line_and_exit_code_2(in_root, capsys):
    assert main(["plan", "params/studies/minni.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vosrepro: there is no parameter file")
    assert "Traceback" not in error


def test_importing_the_command_line_and_all_commands_loads_nothing_heavy():
    code = (
        "import sys, importlib, vosrepro.cli as c\n"
        "for x in c.COMMANDS: importlib.import_module('vosrepro.' + x.module)\n"
        "heavy = {'torch', 'torchvision', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
