# Lets mpirun find the components of a build tree; sourced by tests.
# SPDX-License-Identifier: BSD-3-Clause

# Exports what a job needs to use btl/ninja from the build tree $1.
ompi_use_build_tree() {
    local system pmix
    system=$(ompi_info --parsable --path pkglibdir | sed 's/^path:pkglibdir://')
    export LD_LIBRARY_PATH=$1/symvirt/.libs:$1/ompi-mca/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export OMPI_MCA_mca_base_component_path=$1/ompi-mca/components:$system
    case $(ompi_info --version) in
    *v5.*)
        # This series tells PMIx of the same path, which then complains of all that is not its own.
        pmix=$(pkg-config --variable=libdir pmix)/pmix
        [ ! -d "$pmix" ] || export PMIX_MCA_mca_base_component_path=$pmix
        ;;
    esac
}

# In a sanitizer build of the tree $1, programs that load our components need its runtime first, whoever built them.
ompi_load_sanitizers() {
    local runtime
    runtime=$(ldd "$1/ompi-mca/components/mca_btl_ninja.so" 2>/dev/null | awk '/libasan/ { print $3 }')
    [ -z "$runtime" ] || export LD_PRELOAD=$runtime ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
}
