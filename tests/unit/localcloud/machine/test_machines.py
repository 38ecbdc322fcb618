"""Parts of the machine with cgroup v2 alone: kernel package, configuration, changes of the source, access to registries."""

from __future__ import annotations

import pytest

from localcloud.build.command import BuildError
from tests.machines import disk, kernel


def test_kernel_versions_are_compared_as_numbers() -> None:
    listing = "linux-source-7.9 - Linux kernel source\nlinux-source-7.10 - Linux kernel source\nlinux-source-6.19 - Linux kernel source\n"
    assert kernel.newest_package(listing) == "linux-source-7.10"


def test_the_error_of_a_suite_without_a_kernel_names_the_suite() -> None:
    with pytest.raises(BuildError, match=f"Debian {kernel.SUITE} has no package linux-source"):
        kernel.newest_package("linux-doc - Linux kernel documentation\n")


DRIVER, CPUINFO = (patch[1:] for patch in kernel.PATCHES)


def test_a_lock_of_the_network_driver_is_taken_only_where_there_is_a_queue() -> None:
    text = "\tspin_lock(&vp->rx_queue->head_lock);\n\tx++;\n\tspin_unlock(&vp->rx_queue->head_lock);\n"
    assert kernel.patched(text, *DRIVER, "f.c").splitlines() == [
        "\tif (vp->rx_queue) spin_lock(&vp->rx_queue->head_lock);",
        "\tx++;",
        "\tif (vp->rx_queue) spin_unlock(&vp->rx_queue->head_lock);",
    ]


def test_the_clock_speed_is_printed_before_the_bogomips() -> None:
    text = '\tseq_printf(m, "bogomips\\t: %lu",\n'
    assert kernel.patched(text, *CPUINFO, "f.c") == f'\tseq_puts(m, "cpu MHz\\t\\t: 2000.000\\n");\n{text}'


def test_the_error_of_a_change_that_matches_nothing_names_the_file() -> None:
    with pytest.raises(BuildError, match=r"vector_kern\.c of the kernel no longer has"):
        kernel.patched("int main(void);\n", *DRIVER, "vector_kern.c")


def test_an_option_that_is_missing_in_the_finished_configuration_is_named() -> None:
    assert kernel.missing(kernel.wanted_lines()) == []
    assert kernel.missing(kernel.wanted_lines().replace("CONFIG_CPUSETS=y", "# CONFIG_CPUSETS is not set")) == ["CPUSETS"]


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "https_proxy", "HTTPS_PROXY", "GOPROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_machine_reaches_package_registries_as_this_host_does(name: str) -> None:
    assert disk.REACHING.fullmatch(name)


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "PATH", "HOME", "GOPATH", "PREFECT_API_KEY"])
def test_the_machine_gets_no_other_variables_of_the_environment(name: str) -> None:
    assert not disk.REACHING.fullmatch(name)
