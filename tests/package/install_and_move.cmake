# SPDX-License-Identifier: Apache-2.0
# Install to one prefix and move the tree to another: nothing in it may remember the first.
file(REMOVE_RECURSE ${stage})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} --prefix ${stage}/first COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${stage}/first ${prefix})
