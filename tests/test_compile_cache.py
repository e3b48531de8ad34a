"""Where compiled programs go, and that a second process, or a cleared one, finds them."""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from riskpo_jax.compilation import CompileCounter
from riskpo_jax.compile_cache import OFF, use_compile_cache
from riskpo_jax.errors import UserError

_TOUCHED = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """JAX's settings as they are without an environment, put back afterwards."""
    before = {name: getattr(jax.config, name) for name in _TOUCHED}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_afresh() -> CompileCounter:
    jax.clear_caches()
    x = jnp.arange(7.0)
    with contextlib.closing(CompileCounter()) as compiled:
        jax.jit(lambda x: jnp.cos(x) * 17)(x)
    return compiled


def test_what_was_compiled_once_is_loaded_the_second_time(tmp_path):
    compile_afresh()  # a program before the setting must not settle that there is no cache
    folder = tmp_path / "a" / "b"
    assert use_compile_cache(str(folder)) == str(folder)
    assert compile_afresh().cache_hits == 0 and list(folder.iterdir())
    assert compile_afresh().cache_hits == 1


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_an_accelerator_has_a_bounded_default(platform, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert use_compile_cache("") == str(tmp_path / "home" / "riskpo_jax" / "compiled")
    assert jax.config.jax_compilation_cache_max_size > 0
    compile_afresh()
    assert compile_afresh().cache_hits == 1


def test_a_cpu_has_none_unless_it_is_asked_for(tmp_path):
    assert use_compile_cache("") is None and not (tmp_path / "home").exists()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "environment"))  # as JAX reads it
    assert use_compile_cache("") == str(tmp_path / "environment")
    assert jax.config.jax_compilation_cache_max_size == -1  # a named folder is not ours to prune


def test_a_program_that_was_cut_off_while_it_was_written_is_compiled_again(tmp_path):
    use_compile_cache(str(tmp_path))
    compile_afresh()
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
        assert compile_afresh().count == 1


def test_none_turns_it_off_whatever_the_environment_says(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert use_compile_cache(OFF) is None
    compile_afresh()
    assert compile_afresh().cache_hits == 0 and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_the_users_to_mend_and_a_home_is_not(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"file/x \(.*\): .* --compile\.cache_dir, or none"):
        use_compile_cache(str(file / "x"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert use_compile_cache("") is None and jax.config.jax_compilation_cache_dir is None
